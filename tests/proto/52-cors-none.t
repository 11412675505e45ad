# Without configured origins no page of another one gets anything.

== a page
> GET /a HTTP/1.1
> Host: localhost
> Origin: https://app.example
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
> Origin: https://app.example
> Access-Control-Request-Method: POST
> Access-Control-Request-Headers: authorization
> Connection: close
>
< HTTP/1.1 200 OK
< Content-Type: text/plain
< Content-Length: 2
< Connection: close
<
<| /a
