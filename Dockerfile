# Two images of one program, as a hosting and training service starts them (`serve`, `train`), or anybody else:
#   docker build --target serve -t bintally:serve .      # no torch
#   docker build --target train -t bintally:train .      # torch for the processor
#   docker build --target train --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 -t bintally:train .
# Both run as root, which the services expect, and write nothing beside a model. See docs/decisions/0003-serving.md.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /opt/bintally
# What a hosting service routes by.
LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true

FROM base AS source
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY bintally bintally

FROM source AS serve
# Compiled once here, so that a read-only container starts as quickly.
RUN pip install -c constraints.txt '.[serve]' && python -m compileall -q /usr/local/lib/python3*/site-packages \
    && rm -rf /opt/bintally/*
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["bintally"]
CMD ["serve"]

FROM source AS train
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install "torch==$(sed -n 's/^torch==//p' constraints.txt)" --index-url "${TORCH_INDEX}" \
    && pip install -c constraints.txt '.[train,export,cloud]' && rm -rf /opt/bintally/*
STOPSIGNAL SIGTERM
ENTRYPOINT ["bintally"]
CMD ["train"]
