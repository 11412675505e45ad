# Pages of every origin.
% origins *

== any page
> GET /a HTTP/1.1
> Host: localhost
> Origin: https://app.example
> Connection: close
>
< HTTP/1.1 200 OK
< Access-Control-Allow-Origin: *
< Access-Control-Expose-Headers: x-request-id, retry-after, retry-after-ms
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
< Content-Type: text/plain
< Content-Length: 2
< Connection: close
<
<| /a

== preflight
> OPTIONS /a HTTP/1.1
> Host: localhost
> Origin: null
> Access-Control-Request-Method: POST
> Access-Control-Request-Headers: authorization
> Connection: close
>
< HTTP/1.1 204 No Content
< Access-Control-Allow-Origin: *
< Access-Control-Expose-Headers: x-request-id, retry-after, retry-after-ms
< Connection: close
< Access-Control-Allow-Methods: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS
< Access-Control-Allow-Headers: authorization
< Access-Control-Max-Age: 600
<
