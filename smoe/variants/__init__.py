"""Parts of published mixtures that are no routers: how adapters start, and experts that are whole feed-forward nets."""
