#!/bin/sh
# Run once by the image postgres, when it makes the database: the service's own login, which can add to the log and
# never change it. `stockledger migrate` gives the role its rights.
psql --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" --set=password="$SERVICE_PASSWORD" <<'SQL'
CREATE ROLE stockledger_service LOGIN PASSWORD :'password';
SQL
