"""The cloud way: what a training container must meet, jobs and endpoints of the managed service, and the service here."""
