"""Routes, and the scope that each method of them asks for.

What never lives here: the table of the routes (app.py), who calls and with which scopes.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import falcon
from falcon.routing import map_http_methods

from api.access.scopes import SCOPES, Scope
from api.http.service import Service

OPEN: Literal["open"] = "open"
# What one method asks for: nothing, a scope, or any one of several (the responder then looks closer).
Access = Literal["open"] | Scope | tuple[Scope, ...]


class RouteError(Exception):
    """The route table does not fit what answers there: a defect, told at start."""


class Route:
    """`make` gives what answers at `template`; `needs` holds for each of its methods the scopes that are enough.

    Each method is given as a keyword: `Route("/api/x", X, get="read", put="catalog:write")`. An open one has no scopes.
    """

    def __init__(self, template: str, make: Callable[[Service], object], **access: Access) -> None:
        self.template = template
        self.make = make
        self.needs: Mapping[str, tuple[Scope, ...]] = {
            method.upper(): self._scopes(asked) for method, asked in access.items()
        }
        if "GET" in self.needs:  # which HEAD is without the body (RFC 9110, 9.3.2)
            self.needs = {**self.needs, "HEAD": self.needs["GET"]}

    def _scopes(self, asked: Access) -> tuple[Scope, ...]:
        if asked == OPEN:
            return ()
        scopes = (asked,) if isinstance(asked, str) else asked
        if not scopes or not set(scopes) <= set(SCOPES):
            raise RouteError(f"{self.template} asks for a scope that there is not: {asked!r}")
        return scopes

    def add_to(self, app: "falcon.App[Any, Any]", service: Service) -> None:
        """Raises RouteError unless there is a responder for each method that has a scope, and the other way round."""
        resource: Any = self.make(service)
        if "HEAD" in self.needs and not hasattr(resource, "on_head"):
            resource.on_head = resource.on_get
        responders = set(map_http_methods(resource))
        if responders != set(self.needs):
            names = ", ".join(sorted(responders ^ set(self.needs)))
            raise RouteError(f"{self.template}: a scope without a responder, or one without a scope: {names}")
        app.add_route(self.template, resource)
