"""The demo: stand-ins for Auth-API and chat-api, the authorizer, and a real Envoy in front."""
