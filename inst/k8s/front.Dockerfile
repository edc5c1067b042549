# The image of the front: faucet, and none of the API's packages. A new version of the API needs no new one.
#
#   docker build -f k8s/front.Dockerfile -t hello-front:1 .

ARG FAUCET=faucet
FROM ${FAUCET}
USER root
# As process 1, R would ignore a SIGTERM that comes while it starts. tini passes it on to R as any other process.
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends tini \
 && rm -rf /var/lib/apt/lists/*
USER 10001

# In exec form: a shell in between would get the SIGTERM and keep it. front.yaml says where the pods are, so that one
# image is right in every namespace.
ENTRYPOINT ["tini", "--"]
CMD ["Rscript", "-e", "faucet::run_k8s(Sys.getenv('API_URL'))"]
