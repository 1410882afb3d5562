"""The fence: the only room that makes system calls of its own or writes to /proc and /sys. It knows ints and paths, not containers."""
