"""`stockledger follow`: keeps the read models that follow the log, and that reports are made from."""

import argparse

from api.database import database
from api.server.until_stopped import until_stopped
from api.settings import Settings
from projections.following.projection_runner import Follower


def run(settings: Settings, _chosen: argparse.Namespace) -> int:
    """The follower alone, beside a service that runs elsewhere; more than one are safe."""
    with database(settings) as (url, _):
        print(f"following the log of schema {settings.schema}", flush=True)
        work(settings, url)
    return 0


def work(settings: Settings, url: str) -> None:
    """Work until SIGTERM or SIGINT; of any number that run side by side one leads, and another takes over from it."""
    follower = Follower(url, settings.schema)
    until_stopped(follower.run, follower.stop)
