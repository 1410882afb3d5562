"""Every attempt, by where it comes from; importing a module enters what is in it."""
