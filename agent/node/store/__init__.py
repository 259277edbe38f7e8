"""The node's database: schema, one writer, and the SQL of each table in one file."""
