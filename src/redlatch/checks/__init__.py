"""What can be wrong with a site, each with its severity and remedy, and the probe that knocks from outside."""
