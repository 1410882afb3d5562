"""The privileged half of Slipway on each host: carries messages to the engine, decides nothing."""
