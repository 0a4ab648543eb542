"""The JSON Schema of ``audit.json``, made from the records themselves.

``python -m auditor.schema`` prints it; ``docs/schema`` holds it for those who read results without
the auditor.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import types
import typing
from typing import Any

from auditor.results import SCHEMA_VERSION, AuditResult

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}


def audit_schema() -> dict[str, Any]:
    """Schema (draft 2020-12) of what :meth:`AuditResult.to_json` writes."""
    records: dict[str, Any] = {}
    top = _schema(AuditResult, records)
    records["AuditResult"]["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Result of an audit, version {SCHEMA_VERSION}",
        **top,
        "$defs": dict(sorted(records.items())),
    }


def _schema(kind: Any, records: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        name = typing.cast(type, kind).__name__
        if name not in records:
            records[name] = {}  # known from here on, so that a record may hold its own kind
            records[name] |= _record(kind, records)
        return {"$ref": f"#/$defs/{name}"}
    if origin in (types.UnionType, typing.Union):
        return {
            "anyOf": [
                {"type": "null"} if a is type(None) else _schema(a, records) for a in arguments
            ]
        }
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return {"type": "array", "items": _schema(arguments[0], records)}
    if origin is tuple:
        return {
            "type": "array",
            "prefixItems": [_schema(a, records) for a in arguments],
            "minItems": len(arguments),
            "maxItems": len(arguments),
        }
    if origin is not None:  # Mapping[str, X]
        return {"type": "object", "additionalProperties": _schema(arguments[1], records)}
    return {"type": _PLAIN[kind]}


def _record(kind: Any, records: dict[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    # Arrays are not compared, and not in the JSON either.
    fields = [f for f in dataclasses.fields(kind) if f.compare]
    nothing = dataclasses.MISSING
    return {
        "description": (inspect.getdoc(kind) or "").partition("\n")[0],
        "type": "object",
        "properties": {f.name: _schema(hints[f.name], records) for f in fields},
        "required": [f.name for f in fields if f.default is f.default_factory is nothing],
        "additionalProperties": False,
    }


if __name__ == "__main__":
    print(json.dumps(audit_schema(), indent=1, ensure_ascii=False))
