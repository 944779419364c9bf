"""Postgres: tables, queries and migrations. The truth; everything else can be rebuilt from here."""
