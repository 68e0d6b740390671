"""`stockledger import`: products and movements from files, beside a service that runs or without one."""

import argparse

from api.database import database
from api.importing import options
from api.importing import run as importing
from api.settings import Settings

add_arguments = options.add_arguments


def run(settings: Settings, chosen: argparse.Namespace) -> int:
    to_do = options.read_options(chosen, settings.reservation_ttl_seconds)
    if chosen.dry_run:
        return importing.dry_run(to_do)
    with database(settings) as (url, _):
        return importing.run(to_do, url, settings.schema, again=chosen.again)
