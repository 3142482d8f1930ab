"""What a tenant lets itself use: its policy, exceptions that end, and keeping to both wherever something is placed."""
