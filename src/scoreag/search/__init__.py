"""What attacks are made of: what is climbed, within what, what is kept, and who goes on."""
