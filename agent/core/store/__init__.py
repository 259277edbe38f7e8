"""What the core remembers: tables, transactions, migrations. Only here are databases told apart."""
