#!/bin/sh
# Brings the two PostgreSQL databases of Temporal to the schema of this admin-tools version. Safe to run any number of
# times: each step does nothing where its work is already done. Runs before every start of the server, so an upgrade of
# both image tags (one minor version at a time) migrates first.
#
# POSTGRES_SEEDS, POSTGRES_USER  host and user; the user must be allowed to create databases and the extension btree_gin
# SQL_PASSWORD                   its password, read by temporal-sql-tool itself
set -eu

: "${POSTGRES_SEEDS:?host of PostgreSQL}"
: "${POSTGRES_USER:?user of PostgreSQL}"
: "${SQL_PASSWORD:?password of that user}"

versions=/etc/temporal/schema/postgresql/v12

# sql DATABASE SUBCOMMAND...
sql() {
    database=$1
    shift
    temporal-sql-tool --plugin postgres12 --ep "$POSTGRES_SEEDS" -p 5432 -u "$POSTGRES_USER" --db "$database" "$@"
}

# migrate DATABASE SCHEMA_FOLDER
migrate() {
    sql "$1" create
    sql "$1" setup-schema -v 0.0
    sql "$1" update-schema -d "$versions/$2"
}

migrate temporal temporal/versioned
migrate temporal_visibility visibility/versioned
