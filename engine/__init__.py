"""The container engine of one host: pure Python, the kernel, and nothing of the panel."""
