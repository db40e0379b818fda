"""Where a device gets its key: the page of a link, what it posts to, and the same over a present certificate."""
