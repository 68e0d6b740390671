"""The files that the page at /docs is made of."""

# Files by the names that they are served under, which change when they do; the bulky ones are kept compressed.
FILES = {
    "swagger-ui-5.35.0.js": "text/javascript; charset=utf-8",
    "swagger-ui-5.35.0.css": "text/css; charset=utf-8",
    "favicon-5.35.0.png": "image/png",
    "start-1.js": "text/javascript; charset=utf-8",
}
