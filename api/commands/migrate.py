"""`stockledger migrate`: bring the schema up to date, for deployments that do so before they start the service."""

import argparse

from api.settings import SettingError, Settings
from ledger.store.migrate import migrate
from projections.reporting import queries


def run(settings: Settings, _chosen: argparse.Namespace) -> int:
    if settings.database_url is None:
        raise SettingError("DATABASE_URL must be set: the embedded PostgreSQL is migrated by 'stockledger serve'")
    applied = migrate(settings.database_url, settings.schema, queries.ensure)
    print("\n".join(applied) or "nothing to do")
    return 0
