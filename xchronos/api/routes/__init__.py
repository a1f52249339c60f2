"""The routes of the API, by what they are about. A handler's docstring is its description in OpenAPI."""
