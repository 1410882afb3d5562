"""The machines that run containers, the operations sent to them, and the only door down (dispatch)."""
