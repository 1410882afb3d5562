"""The images a tenant may use: rows that mirror the hosts' stores."""
