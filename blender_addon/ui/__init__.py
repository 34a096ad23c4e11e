"""What the artist sees: panels, operators, properties and preferences."""
