// No key is kept when the page closes, and nothing is asked of other servers (validatorUrl).
SwaggerUIBundle({
  url: "doc.json",
  dom_id: "#api",
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  docExpansion: "none",
  validatorUrl: null,
});
