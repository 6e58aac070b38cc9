"""Networks that leave the toolkit: files for other programs, engines that run them faster, and what they take."""
