"""Request -> specs: everything that can be wrong with a request is found here."""
