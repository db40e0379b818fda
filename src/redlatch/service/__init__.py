"""What listens: for now the one-shot pages that bring a key to its device (handover) and try it (testport)."""
