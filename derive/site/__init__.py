"""What people read: pages of models, methods and commands, and an appendix in LaTeX."""
