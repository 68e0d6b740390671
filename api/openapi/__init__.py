"""The OpenAPI document, made of the route table, the wire Structs and what `operations` says of each call."""
