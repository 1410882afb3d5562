"""What tests share: the machine and its promises, scratch folders, a whole platform, leftovers."""
