# Requests that ask for another protocol, to handlers that know none; and whose pages may ask at all.

== ignored where nobody speaks it
> GET /a HTTP/1.1
> Host: localhost
> Connection: Upgrade
> Upgrade: websocket
>
> GET /b HTTP/1.1
> Host: localhost
> Connection: close, upgrade
> Upgrade: h2c, websocket
>
< HTTP/1.1 200 OK
< Content-Type: text/plain
< Content-Length: 2
<
<| /a
< HTTP/1.1 200 OK
< Content-Type: text/plain
< Content-Length: 2
< Connection: close
<
<| /b

== from a page of our own
> GET /a HTTP/1.1
> Host: localhost:8080
> Origin: http://localhost:8080
> Connection: close, Upgrade
> Upgrade: websocket
>
< HTTP/1.1 200 OK
< Content-Type: text/plain
< Content-Length: 2
< Connection: close
<
<| /a

== from a page of somebody else
> GET /a HTTP/1.1
> Host: localhost:8080
> Origin: http://localhost:8081
> Connection: Upgrade
> Upgrade: websocket
>
< HTTP/1.1 403 Forbidden
< Content-Type: text/plain
< Content-Length: 17
< Connection: close
<
<| permission_denied

== from a page that hides its origin
> GET /a HTTP/1.1
> Host: localhost
> Origin: null
> Connection: Upgrade
> Upgrade: websocket
>
< HTTP/1.1 403 Forbidden
< Content-Type: text/plain
< Content-Length: 17
< Connection: close
<
<| permission_denied
