"""What a named number is, without physics: domains, access by name, labels of results."""
