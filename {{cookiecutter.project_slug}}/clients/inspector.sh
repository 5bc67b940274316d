#% if cookiecutter.auth == "api-key"
npx @modelcontextprotocol/inspector --cli http://127.0.0.1:{{ cookiecutter.port }}/mcp --transport http --method tools/list \
  --header "Authorization: Bearer ${{ cookiecutter.project_slug | upper | replace('-', '_') }}_KEY"
#% else
npx @modelcontextprotocol/inspector --cli http://127.0.0.1:{{ cookiecutter.port }}/mcp --transport http --method tools/list
#% endif
