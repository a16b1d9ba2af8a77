"""Pictures of flights, of learning and of studies."""
