"""What listens: console and enrolment (serve), one link (sending), a port on which a key is tried (testport)."""
