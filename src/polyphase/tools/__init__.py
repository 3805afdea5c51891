"""What the command line offers: explanations, checks and the demo."""
