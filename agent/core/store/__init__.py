"""What the core remembers: tables, transactions, migrations. The only place that knows SQLite."""
