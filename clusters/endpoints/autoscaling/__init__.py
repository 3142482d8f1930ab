"""How many replicas an endpoint has, where Berth decides it: between a floor and a ceiling, by what gateways tell."""
