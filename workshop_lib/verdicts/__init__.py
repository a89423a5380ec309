"""What people, checks and judges say of answers, and how far that can be trusted."""
