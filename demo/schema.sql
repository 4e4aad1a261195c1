-- Alfresco's tables as far as documents are concerned: the columns and indexes of 5.0 and later on PostgreSQL.
-- There is no foreign key from a node's content property to alf_content_data; Alfresco has none either.

CREATE TABLE alf_namespace (
    id int8 PRIMARY KEY, version int8 NOT NULL, uri varchar(100) NOT NULL UNIQUE
);
CREATE TABLE alf_qname (
    id int8 PRIMARY KEY, version int8 NOT NULL,
    ns_id int8 NOT NULL REFERENCES alf_namespace (id), local_name varchar(200) NOT NULL,
    UNIQUE (ns_id, local_name)
);
CREATE TABLE alf_locale (id int8 PRIMARY KEY, version int8 NOT NULL, locale_str varchar(20) NOT NULL UNIQUE);
CREATE TABLE alf_mimetype (
    id int8 PRIMARY KEY, version int8 NOT NULL, mimetype_str varchar(100) NOT NULL UNIQUE
);
CREATE TABLE alf_encoding (
    id int8 PRIMARY KEY, version int8 NOT NULL, encoding_str varchar(100) NOT NULL UNIQUE
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

CREATE TABLE alf_permission (
    id int8 PRIMARY KEY, version int8 NOT NULL,
    type_qname_id int8 NOT NULL REFERENCES alf_qname (id), name varchar(100) NOT NULL,
    UNIQUE (type_qname_id, name)
);
CREATE TABLE alf_authority (id int8 PRIMARY KEY, version int8 NOT NULL, authority varchar(100), crc int8);
CREATE UNIQUE INDEX authority ON alf_authority (authority, crc);
CREATE INDEX idx_alf_auth_aut ON alf_authority (authority);
CREATE TABLE alf_access_control_entry (
    id int8 PRIMARY KEY, version int8 NOT NULL,
    permission_id int8 NOT NULL REFERENCES alf_permission (id),
    authority_id int8 NOT NULL REFERENCES alf_authority (id),
    allowed bool NOT NULL, applies int4 NOT NULL, context_id int8,
    UNIQUE (permission_id, authority_id, allowed, applies)
);
CREATE INDEX fk_alf_ace_auth ON alf_access_control_entry (authority_id);
CREATE TABLE alf_acl_change_set (id int8 PRIMARY KEY, commit_time_ms int8);
CREATE TABLE alf_access_control_list (
    id int8 PRIMARY KEY, version int8 NOT NULL, acl_id varchar(36) NOT NULL, latest bool NOT NULL,
    acl_version int8 NOT NULL, inherits bool NOT NULL, inherits_from int8, type int4 NOT NULL,
    inherited_acl int8, is_versioned bool NOT NULL, requires_version bool NOT NULL,
    acl_change_set int8 REFERENCES alf_acl_change_set (id),
    UNIQUE (acl_id, latest, acl_version)
);
CREATE INDEX idx_alf_acl_inh ON alf_access_control_list (inherits, inherits_from);
CREATE TABLE alf_acl_member (
    id int8 PRIMARY KEY, version int8 NOT NULL,
    acl_id int8 NOT NULL REFERENCES alf_access_control_list (id),
    ace_id int8 NOT NULL REFERENCES alf_access_control_entry (id), pos int4 NOT NULL,
    UNIQUE (acl_id, ace_id, pos)
);
CREATE INDEX fk_alf_aclm_acl ON alf_acl_member (acl_id);
CREATE INDEX fk_alf_aclm_ace ON alf_acl_member (ace_id);

CREATE TABLE alf_node (
    id int8 PRIMARY KEY, version int8 NOT NULL,
    store_id int8 NOT NULL REFERENCES alf_store (id), uuid varchar(36) NOT NULL,
    transaction_id int8 NOT NULL REFERENCES alf_transaction (id),
    type_qname_id int8 NOT NULL REFERENCES alf_qname (id),
    locale_id int8 NOT NULL REFERENCES alf_locale (id), acl_id int8 REFERENCES alf_access_control_list (id),
    audit_creator varchar(255), audit_created varchar(30), audit_modifier varchar(255), audit_modified varchar(30),
    audit_accessed varchar(30),
    UNIQUE (store_id, uuid)
);
CREATE INDEX idx_alf_node_mdq ON alf_node (store_id, type_qname_id, id);
CREATE INDEX idx_alf_node_cor ON alf_node (audit_creator, store_id, type_qname_id, id);
CREATE INDEX idx_alf_node_crd ON alf_node (audit_created, store_id, type_qname_id, id);
CREATE INDEX idx_alf_node_mor ON alf_node (audit_modifier, store_id, type_qname_id, id);
CREATE INDEX idx_alf_node_mod ON alf_node (audit_modified, store_id, type_qname_id, id);
CREATE INDEX idx_alf_node_txn_type ON alf_node (transaction_id, type_qname_id);
CREATE INDEX fk_alf_node_acl ON alf_node (acl_id);
CREATE INDEX idx_alf_node_tqn ON alf_node (type_qname_id, store_id, id);
CREATE TABLE alf_child_assoc (
    id int8 PRIMARY KEY, version int8 NOT NULL,
    parent_node_id int8 NOT NULL REFERENCES alf_node (id),
    type_qname_id int8 NOT NULL REFERENCES alf_qname (id),
    child_node_name_crc int8 NOT NULL, child_node_name varchar(50) NOT NULL,
    child_node_id int8 NOT NULL REFERENCES alf_node (id),
    qname_ns_id int8 NOT NULL REFERENCES alf_namespace (id), qname_localname varchar(255) NOT NULL,
    qname_crc int8 NOT NULL, is_primary bool, assoc_index int4,
    UNIQUE (parent_node_id, type_qname_id, child_node_name_crc, child_node_name)
);
CREATE INDEX idx_alf_cass_pnode ON alf_child_assoc (parent_node_id, assoc_index, id);
CREATE INDEX fk_alf_cass_cnode ON alf_child_assoc (child_node_id);
CREATE INDEX idx_alf_cass_qncrc ON alf_child_assoc (qname_crc, type_qname_id, parent_node_id);
CREATE INDEX idx_alf_cass_pri ON alf_child_assoc (parent_node_id, is_primary, child_node_id);
CREATE TABLE alf_node_aspects (
    node_id int8 NOT NULL REFERENCES alf_node (id), qname_id int8 NOT NULL REFERENCES alf_qname (id),
    PRIMARY KEY (node_id, qname_id)
);
CREATE INDEX fk_alf_nasp_n ON alf_node_aspects (node_id);
CREATE INDEX fk_alf_nasp_qn ON alf_node_aspects (qname_id);
CREATE TABLE alf_node_properties (
    node_id int8 NOT NULL REFERENCES alf_node (id),
    actual_type_n int4 NOT NULL, persisted_type_n int4 NOT NULL, boolean_value bool, long_value int8,
    float_value float4, double_value float8, string_value varchar(1024), serializable_value bytea,
    qname_id int8 NOT NULL REFERENCES alf_qname (id), list_index int4 NOT NULL,
    locale_id int8 NOT NULL REFERENCES alf_locale (id),
    PRIMARY KEY (node_id, qname_id, list_index, locale_id)
);
CREATE INDEX fk_alf_nprop_n ON alf_node_properties (node_id);
CREATE INDEX fk_alf_nprop_qn ON alf_node_properties (qname_id);
CREATE INDEX idx_alf_nprop_s ON alf_node_properties (qname_id, string_value, node_id);
CREATE INDEX idx_alf_nprop_l ON alf_node_properties (qname_id, long_value, node_id);
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
    content_mimetype_id int8 REFERENCES alf_mimetype (id),
    content_encoding_id int8 REFERENCES alf_encoding (id), content_locale_id int8 REFERENCES alf_locale (id)
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
INSERT INTO alf_locale VALUES (1, 0, '.default');
INSERT INTO alf_mimetype VALUES (1, 0, 'application/octet-stream');
INSERT INTO alf_encoding VALUES (1, 0, 'UTF-8');
