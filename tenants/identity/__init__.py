"""How people prove who they are: invitations, second factors, sessions, and providers with their groups."""
