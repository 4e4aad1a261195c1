-- Alfresco's tables as far as content is concerned: the columns of 5.0 and later on PostgreSQL.
-- There is no foreign key from a node's content property to alf_content_data; Alfresco has none either.

CREATE TABLE alf_namespace (
    id int8 PRIMARY KEY, version int8 NOT NULL, uri varchar(100) NOT NULL UNIQUE
);
CREATE TABLE alf_qname (
    id int8 PRIMARY KEY, version int8 NOT NULL,
    ns_id int8 NOT NULL REFERENCES alf_namespace (id), local_name varchar(200) NOT NULL,
    UNIQUE (ns_id, local_name)
);
CREATE TABLE alf_store (
    id int8 PRIMARY KEY, version int8 NOT NULL,
    protocol varchar(50) NOT NULL, identifier varchar(100) NOT NULL, root_node_id int8,
    UNIQUE (protocol, identifier)
);
CREATE TABLE alf_transaction (
    id int8 PRIMARY KEY, version int8 NOT NULL, change_txn_id varchar(56) NOT NULL, commit_time_ms int8
);
CREATE INDEX idx_alf_txn_ctms ON alf_transaction (commit_time_ms, id);
CREATE TABLE alf_node (
    id int8 PRIMARY KEY, version int8 NOT NULL,
    store_id int8 NOT NULL REFERENCES alf_store (id), uuid varchar(36) NOT NULL,
    transaction_id int8 NOT NULL REFERENCES alf_transaction (id),
    type_qname_id int8 NOT NULL REFERENCES alf_qname (id), locale_id int8 NOT NULL, acl_id int8,
    audit_creator varchar(255), audit_created varchar(30), audit_modifier varchar(255), audit_modified varchar(30),
    UNIQUE (store_id, uuid)
);
CREATE TABLE alf_node_properties (
    node_id int8 NOT NULL REFERENCES alf_node (id),
    actual_type_n int4 NOT NULL, persisted_type_n int4 NOT NULL, boolean_value bool, long_value int8,
    float_value float4, double_value float8, string_value varchar(1024), serializable_value bytea,
    qname_id int8 NOT NULL REFERENCES alf_qname (id), list_index int4 NOT NULL, locale_id int8 NOT NULL,
    PRIMARY KEY (node_id, qname_id, list_index, locale_id)
);
CREATE TABLE alf_content_url (
    id int8 PRIMARY KEY, content_url varchar(255) NOT NULL,
    content_url_short varchar(12) NOT NULL, content_url_crc int8 NOT NULL,
    content_size int8 NOT NULL, orphan_time int8,
    UNIQUE (content_url_short, content_url_crc)
);
CREATE INDEX idx_alf_conturl_ot ON alf_content_url (orphan_time);
CREATE INDEX idx_alf_conturl_sz ON alf_content_url (content_size, id);
CREATE TABLE alf_content_data (
    id int8 PRIMARY KEY, version int8 NOT NULL, content_url_id int8 REFERENCES alf_content_url (id),
    content_mimetype_id int8, content_encoding_id int8, content_locale_id int8
);
CREATE INDEX fk_alf_cont_url ON alf_content_data (content_url_id);
CREATE TABLE alf_content_url_encryption (
    id int8 PRIMARY KEY, content_url_id int8 NOT NULL UNIQUE REFERENCES alf_content_url (id) ON DELETE CASCADE,
    algorithm varchar(10) NOT NULL, key_size int4 NOT NULL, encrypted_key bytea NOT NULL,
    master_keystore_id varchar(20) NOT NULL, master_key_alias varchar(15) NOT NULL, unencrypted_file_size int8
);

INSERT INTO alf_namespace VALUES
    (1, 0, 'http://www.alfresco.org/model/system/1.0'), (2, 0, 'http://www.alfresco.org/model/content/1.0');
INSERT INTO alf_qname VALUES
    (1, 0, 2, 'content'), (2, 0, 1, 'descriptor'), (3, 0, 1, 'versionProperties'), (4, 0, 2, 'folder');
INSERT INTO alf_store VALUES
    (1, 1, 'system', 'system', NULL), (2, 1, 'workspace', 'SpacesStore', NULL), (3, 1, 'archive', 'SpacesStore', NULL);
