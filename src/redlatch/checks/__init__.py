"""What can be wrong, seen from outside: probes that knock at the door as a stranger and as a device."""
