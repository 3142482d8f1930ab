"""The operator console: one module per screen, one template folder beside ``templates/console``."""
