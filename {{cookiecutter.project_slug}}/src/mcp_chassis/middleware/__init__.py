"""The layers of a request, one ASGI class a file. `app.py` puts them in order."""
