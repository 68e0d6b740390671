"""The document itself: operations, wire Structs and problems put together as OpenAPI 3.1."""

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

import msgspec

from api import rooms
from api.http.routes import Route
from api.openapi import problems, shapes
from api.openapi.exact import batch_body
from api.openapi.headers import HEADERS, REQUIRED
from api.openapi.model import JSON, Answer, Operation, Parameter, Shape
from api.openapi.operations import OPERATIONS
from api.openapi.parameters import REQUEST_ID

_KEY = "key"
_SECURITY = {
    "type": "http",
    "scheme": "bearer",
    "description": "A key of `stockledger keys create`, where the service asks for keys; one of the scopes is enough.",
}
_REF = "#/components/schemas/{name}"
_INFO = {
    "title": "Stockledger",
    "version": version("stockledger"),
    "license": {"name": "MIT", "identifier": "MIT"},
    "description": "An inventory ledger with reservations. Errors are problems (RFC 9457); every answer has an"
    " `X-Request-Id`. HEAD is answered wherever GET is, and a method that a path does not have with 405 and `Allow`.",
}


class UndocumentedError(Exception):
    """The route table and the operations do not name the same calls."""


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The whole document of these routes, as JSON has it; raises UndocumentedError.

    HEAD, which is GET without the body, is described once for all.
    """
    served = {
        (m, path_of(route.template)): scopes for route in routes for m, scopes in route.needs.items() if m != "HEAD"
    }
    if served.keys() != OPERATIONS.keys():
        raise UndocumentedError(
            f"without an operation, or without a route: {sorted(served.keys() ^ OPERATIONS.keys())}"
        )
    schemas = Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for (method, path), operation in OPERATIONS.items():
        scopes = served[method, path]
        described = _operation(schemas, operation, problems.of(operation, method, path, needs_key=bool(scopes)))
        paths.setdefault(path, {})[method.lower()] = described | {"security": [{_KEY: [scope]} for scope in scopes]}
    return {
        "openapi": "3.1.0",
        "info": _INFO,
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(operation.tag for operation in OPERATIONS.values())],
        "paths": paths,
        "components": {
            "securitySchemes": {_KEY: _SECURITY},
            "schemas": schemas.components,
            "headers": {
                name: {"description": text, "required": name in REQUIRED, "schema": schemas.of(shape)}
                for name, (shape, text) in HEADERS.items()
            },
        },
    }


def path_of(template: str) -> str:
    """A route's template as the document writes it: `{id:uuid}` as `{id}`, `{quantity_text}` as `{quantity}`."""
    return re.sub(r"\{(\w+?)(?:_text)?(?::\w+)?\}", r"{\1}", template)


class Schemas:
    """The schemas of everything that the operations name, as msgspec derives them from types."""

    def __init__(self) -> None:
        self._named: dict[int, dict[str, Any]] = {}
        types = list(_types(OPERATIONS.values()))
        found, components = msgspec.json.schema_components(types, ref_template=_REF)
        self._named = {id(shape): _portable(schema) for shape, schema in zip(types, found, strict=True)}
        self.components: dict[str, Any] = {name: _portable(schema) for name, schema in components.items()}
        self._kept = types  # an id is only good as long as what it names is there
        self._complete()

    def of(self, shape: Shape) -> dict[str, Any]:
        if isinstance(shape, dict):
            return shape
        if isinstance(shape, shapes.Page):
            properties = {
                "items": {"type": "array", "items": self.of(shape.of)},
                "next_cursor": {"type": ["string", "null"]},
            }
            return {"type": "object", "properties": properties, "required": list(properties)}
        return self._named[id(shape)]

    def _complete(self) -> None:
        for name, more in rooms.EXACTLY.items():
            self.components[name] |= more
        body = self.components["BatchBody"]
        self.components["BatchBody"] = batch_body(body, self.of(rooms.BATCH.shape))
        members = self.components["Statement"]["properties"]
        for name, types in shapes.statement_members().items():
            one = [schema for t in types if (schema := _portable(msgspec.json.schema(t)))]
            members.setdefault(name, one[0] if len(one) == 1 else {"anyOf": one})
        for slug in problems.SLUGS:
            own = {name: self.of(type_) for name, type_ in problems.MEMBERS.get(slug, {}).items()}
            self.components[problems.name(slug)] = problems.schema(slug, own)


def _types(operations: Iterable[Operation]) -> Iterable[Any]:
    """Every type that is somewhere in the document, each once."""
    found: dict[int, Any] = {}
    named: list[Shape] = [
        problems.Problem,
        rooms.BATCH.shape,
        REQUEST_ID.shape,
        *(shape for shape, _ in HEADERS.values()),
    ]
    named += [type_ for members in problems.MEMBERS.values() for type_ in members.values()]
    for operation in operations:
        named += [parameter.shape for parameter in operation.parameters]
        named += [shape for answer in operation.answers.values() for shape in answer.content.values()]
        named += [operation.body] if operation.body is not None else []
    for shape in named:
        of = shape.of if isinstance(shape, shapes.Page) else shape
        if not isinstance(of, dict):
            found[id(of)] = of
    return found.values()


def _portable(schema: Any) -> Any:
    """JSON Schema's patterns are searched for, in a dialect that has ^ and $ alone for the ends (ECMA 262)."""
    if isinstance(schema, Mapping):
        return {
            name: value.replace(r"\A", "^").replace(r"\Z", "$")
            if name == "pattern" and isinstance(value, str)
            else _portable(value)
            for name, value in schema.items()
        }
    return [_portable(value) for value in schema] if isinstance(schema, list) else schema


def _operation(schemas: Schemas, operation: Operation, slugs: Iterable[str]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": [_parameter(schemas, parameter) for parameter in (*operation.parameters, REQUEST_ID)],
        "responses": {str(status): _answer(schemas, answer) for status, answer in operation.answers.items()}
        | problems.responses(slugs),
    }
    if operation.text:
        described["description"] = operation.text
    if operation.body is not None:
        content: dict[str, Any] = {"schema": schemas.of(operation.body)}
        if operation.body_example is not None:
            content["example"] = operation.body_example
        described["requestBody"] = {"required": operation.needs_body, "content": {JSON: content}}
    if operation.links:
        first = next(iter(described["responses"].values()))
        parameter, member = operation.link_by
        first["links"] = {
            to: {"operationId": to, "parameters": {parameter: f"$response.body#/{member}"}} for to in operation.links
        }
    return described


def _parameter(schemas: Schemas, parameter: Parameter) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.where,
        "description": parameter.text,
        "required": parameter.required,
        "schema": schemas.of(parameter.shape),
    }
    return described if parameter.example is None else described | {"example": parameter.example}


def _answer(schemas: Schemas, answer: Answer) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": answer.text,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-Id", *answer.headers)},
    }
    if answer.content:
        described["content"] = {
            media_type: {"schema": schemas.of(shape)}
            | ({"example": answer.example} if answer.example is not None and media_type == JSON else {})
            for media_type, shape in answer.content.items()
        }
    return described
