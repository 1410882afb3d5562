"""The cases of the comparison, a file for each subject: ``CASES`` of each are run in the order of the files."""
