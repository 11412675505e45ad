# Pages of other origins, two of them allowed.
% origins https://app.example http://localhost:3000

== an allowed page reads the reply
> GET /a HTTP/1.1
> Host: localhost
> Origin: https://app.example
> Connection: close
>
< HTTP/1.1 200 OK
< Vary: Origin
< Access-Control-Allow-Origin: https://app.example
< Access-Control-Expose-Headers: x-request-id, retry-after, retry-after-ms
< Content-Type: text/plain
< Content-Length: 2
< Connection: close
<
<| /a

== the other one too
> GET /a HTTP/1.1
> Host: localhost
> Origin: http://localhost:3000
> Connection: close
>
< HTTP/1.1 200 OK
< Vary: Origin
< Access-Control-Allow-Origin: http://localhost:3000
< Access-Control-Expose-Headers: x-request-id, retry-after, retry-after-ms
< Content-Type: text/plain
< Content-Length: 2
< Connection: close
<
<| /a

== an error can be read as well, and when to come back
> GET /busy HTTP/1.1
> Host: localhost
> Origin: https://app.example
> Connection: close
>
< HTTP/1.1 503 Service Unavailable
< Vary: Origin
< Access-Control-Allow-Origin: https://app.example
< Access-Control-Expose-Headers: x-request-id, retry-after, retry-after-ms
< Content-Type: text/plain
< Content-Length: 17
< Connection: close
< Retry-After: 2
< retry-after-ms: 1500
< x-should-retry: true
<
<| server_overloaded

== any other page gets a reply that its browser keeps from it
> GET /a HTTP/1.1
> Host: localhost
> Origin: https://evil.example
> Connection: close
>
< HTTP/1.1 200 OK
< Vary: Origin
< Content-Type: text/plain
< Content-Length: 2
< Connection: close
<
<| /a

== an origin that only begins like an allowed one
> GET /a HTTP/1.1
> Host: localhost
> Origin: https://app.example.evil
> Connection: close
>
< HTTP/1.1 200 OK
< Vary: Origin
< Content-Type: text/plain
< Content-Length: 2
< Connection: close
<
<| /a

== another scheme is another origin
> GET /a HTTP/1.1
> Host: localhost
> Origin: http://app.example
> Connection: close
>
< HTTP/1.1 200 OK
< Vary: Origin
< Content-Type: text/plain
< Content-Length: 2
< Connection: close
<
<| /a

== no page at all
> GET /a HTTP/1.1
> Host: localhost
> Connection: close
>
< HTTP/1.1 200 OK
< Vary: Origin
< Content-Type: text/plain
< Content-Length: 2
< Connection: close
<
<| /a

== preflight
> OPTIONS /a HTTP/1.1
> Host: localhost
> Origin: https://app.example
> Access-Control-Request-Method: POST
> Access-Control-Request-Headers: authorization
> Connection: close
>
< HTTP/1.1 204 No Content
< Vary: Origin
< Access-Control-Allow-Origin: https://app.example
< Access-Control-Expose-Headers: x-request-id, retry-after, retry-after-ms
< Connection: close
< Access-Control-Allow-Methods: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS
< Access-Control-Allow-Headers: authorization
< Access-Control-Max-Age: 600
<

== preflight that asks for no headers
> OPTIONS /a HTTP/1.1
> Host: localhost
> Origin: https://app.example
> Access-Control-Request-Method: POST
> Connection: close
>
< HTTP/1.1 204 No Content
< Vary: Origin
< Access-Control-Allow-Origin: https://app.example
< Access-Control-Expose-Headers: x-request-id, retry-after, retry-after-ms
< Connection: close
< Access-Control-Allow-Methods: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS
< Access-Control-Max-Age: 600
<

== preflight of another page: an ordinary request, without permission
> OPTIONS /a HTTP/1.1
> Host: localhost
> Origin: https://evil.example
> Access-Control-Request-Method: POST
> Access-Control-Request-Headers: authorization
> Connection: close
>
< HTTP/1.1 200 OK
< Vary: Origin
< Content-Type: text/plain
< Content-Length: 2
< Connection: close
<
<| /a

== an allowed page may ask for an upgrade
> GET /a HTTP/1.1
> Host: localhost
> Origin: https://app.example
> Connection: close, Upgrade
> Upgrade: websocket
>
< HTTP/1.1 200 OK
< Vary: Origin
< Access-Control-Allow-Origin: https://app.example
< Access-Control-Expose-Headers: x-request-id, retry-after, retry-after-ms
< Content-Type: text/plain
< Content-Length: 2
< Connection: close
<
<| /a
