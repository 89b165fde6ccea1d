"""How processes of one user share one embedded service: ``docs/architecture/sharing.md``."""
