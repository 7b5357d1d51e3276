"""The managed service on this machine: its wire protocol on a loopback port, its jobs and endpoints as processes here."""
